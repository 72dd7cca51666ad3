"""The token exchange service: AWS credentials for the device's components, over HTTP on the loopback.

A component that depends on ``aws.greengrass.TokenExchangeService`` finds in its environment where to ask and what
to prove itself with; the AWS SDKs ask by themselves.

=============  =======================================================================
module         what it holds
=============  =======================================================================
``exchange``   the request that is answered, and every answer there is (pure)
``server``     the server on the loopback
=============  =======================================================================
"""
