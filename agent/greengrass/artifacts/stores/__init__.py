"""Where artifacts come from; ``agent.greengrass.artifacts.registry`` has their schemes.

===============  ===================================================================================
module           what it holds
===============  ===================================================================================
``file``         ``file:``, a disk of this machine
``docker``       ``docker:``, images that the docker CLI pulls
``https``        ``https:``, in threads; ``client`` is its HTTP client: proxies, TLS, ranges, redirects
``answers``      what an HTTP answer, or the lack of one, means for an artifact (pure)
``s3``           ``s3:``, in parts side by side
``s3client``     boto3's client behind it; imported when the first such artifact is fetched
``s3answers``    an object's address, and what S3's refusals mean (pure)
``greengrass``   ``greengrass:``, from URLs that Amazon's cloud signs
===============  ===================================================================================
"""
