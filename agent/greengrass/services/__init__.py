"""What AWS's own components do, done by the agent: each is there while its component is deployed.

================  ===========================================================================================
module            what it holds
================  ===========================================================================================
``base``          ``Service``, the interface to each; ``Services``, those that are deployed
``shadows``       local shadows, and their sync with the cloud
``logs``          the log manager: components' logs go to CloudWatch Logs, and are bounded on the disk
``streams``       the stream manager: streams of messages that components append, read and have exported
``edge_manager``  SageMaker Edge Manager's agent: its interface, by its component's parameters
``lookout``       Lookout for Vision's edge agent: its interface, on the socket that its clients know
``secrets``       secrets of AWS Secrets Manager and of a folder of files
================  ===========================================================================================
"""
