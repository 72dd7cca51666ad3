"""``aws.greengrass.SecretManager``: secrets for components, of AWS Secrets Manager and of a folder of files.

===========  =========================================================================================
module       what it holds
===========  =========================================================================================
``secret``   what a secret is, its names and its versions (pure)
``folder``   secrets in files that only the agent can read
``cloud``    secrets of AWS Secrets Manager
``cache``    what was read last, encrypted on the disk
``manager``  the service: which secret is meant, and where it comes from
===========  =========================================================================================
"""
