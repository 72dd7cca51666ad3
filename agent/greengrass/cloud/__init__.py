"""The Greengrass data plane: what a core device asks Amazon's cloud for during a deployment, by its certificate.

==================  ============================================================================
module              what it holds
==================  ============================================================================
``messages``        requests and answers, in the cloud's own words (pure)
``client``          the two requests over mutual TLS, with retries; imports urllib3
``negotiation``     requirements → the recipes that the cloud chooses, level by level
``errors``          what can go wrong, under Greengrass's codes
==================  ============================================================================

Documents that were too large for their job are refused: Amazon documents no path under which the whole one is.
Artifacts under ``greengrass:`` are fetched by ``artifacts.stores.greengrass``, which asks the client where.
"""
