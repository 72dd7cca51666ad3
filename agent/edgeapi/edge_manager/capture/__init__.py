"""What clients have captured: tensors in, files of JSON lines out, to the disk or to S3.

================  ====================================================================================================
module            what it holds
================  ====================================================================================================
``record``        a capture, and the files that a batch of them becomes (pure)
``request``       a client's request, held against the rules (pure)
``queue``         which captures leave together, and when (pure)
``spool``         the queue on the disk: what was taken, what became of it
``destinations``  the folder and the bucket
``capture``       the parts in one loop
``upload``        what is on the disk, to the cloud as well
================  ====================================================================================================

What is promised:

- **Taken** is a capture whose request was answered: it is in the spool, synchronised to the disk.  Whatever ends this
  process or its power, it goes on from there.
- ``SUCCESS`` is a capture whose file is on the disk, synchronised, or in the bucket; ``IN_PROGRESS`` one that waits,
  without a network too.
- Each is in one file, once, behind those that were taken before it.  Which captures make a batch is noted before it is
  written, so that a batch that a crash cut off is written again over itself, under the same name.
- Nothing that was taken is dropped to make room: where there is none, the next request is refused, and counted.
"""
