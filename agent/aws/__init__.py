"""AWS: the credentials that the agent gets from its account, jobs, provisioning, the token exchange.

================  ==============================================================================
module            what it holds
================  ==============================================================================
``credentials``   credentials, and the one seam to whoever provides them
``iot``           the IoT credentials provider: a certificate for temporary credentials of a role
``answers``       the meaning of its answers, and how long they hold (pure)
``sdk``           boto3 with the provider's credentials, or with its own chain; imports boto3
``detached``      blocking work that nobody has to wait for
``errors``        why there are no credentials, under Greengrass's own codes
``jobs``          AWS IoT Jobs, both ends, and the deployment shadow
``provision``     a device's identity at IoT Core
``tes``           the token exchange service for components
================  ==============================================================================
"""
