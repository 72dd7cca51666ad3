"""AWS: what the agent is told about the account it belongs to, and the credentials it gets there.

================  ==============================================================================
module            what it holds
================  ==============================================================================
``options``       the table ``[aws]`` of the configuration
``credentials``   credentials, and the one seam to whoever provides them
``iot``           the IoT credentials provider: a certificate for temporary credentials of a role
``answers``       what its answers mean and how long they hold (pure)
``sdk``           boto3 with the provider's credentials, or with its own chain; imports boto3
``detached``      blocking work that nobody has to wait for
``errors``        why there are no credentials, under Greengrass's own codes
================  ==============================================================================
"""
