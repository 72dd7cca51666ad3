"""What the agent needs, checked one by one: each check gives findings, and a finding that is not OK says the fix.

==============  ==========================================================================================
module          what it checks
==============  ==========================================================================================
``machine``     Python, C library, processor, memory, the memory that frames cross in
``libraries``   NumPy, OpenCV and each backend, imported in a child process
``models``      the sample model answers; each configured model loads
``components``  what the catalog's components ask of the device, and which runtimes could be had
``files``       the data folder and the password files
``tls``         certificates and keys
``brokers``     each broker is reached and takes what the streams ask of it
``checks``      the table of all of them, in order
==============  ==========================================================================================

Nothing native is imported here: ``child`` runs ``probe`` in a process of its own, so that a library that
crashes is a finding and not the end of the examination.  ``alone`` loads one model and ``visit`` connects to one
broker beside a running agent; other commands use the two as well.
"""
