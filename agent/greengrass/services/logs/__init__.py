"""The log manager: components' logs go to Amazon CloudWatch Logs, and no more of them than asked stays on the disk.

=============  =========================================================================================
module         what it holds
=============  =========================================================================================
``options``    what ``aws.greengrass.LogManager`` is configured with
``events``     lines → events → batches that CloudWatch Logs takes
``files``      a source's log files, the oldest first, whatever they are renamed to
``positions``  how far each file is uploaded, kept on disk
``cloud``      CloudWatch Logs, by boto3
``manager``    the service: rounds of uploads, and the bound of the disk
=============  =========================================================================================
"""
