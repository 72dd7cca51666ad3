"""The Greengrass data plane: what a core device asks Amazon's cloud for during a deployment, by its certificate.

==================  ============================================================================
module              what it holds
==================  ============================================================================
``options``         the table ``[greengrass]``; without it nothing here is imported
``messages``        requests and answers, in the cloud's own words (pure)
``client``          the three requests over mutual TLS, tried again as long as there is patience
``negotiation``     wishes → the recipes that the cloud chooses, level by level
``configuration``   the whole of a deployment document that was too large for its job
``errors``          what can go wrong, under Greengrass's codes
==================  ============================================================================

Artifacts under ``greengrass:`` are fetched by ``agent.artifacts.stores.greengrass``, which asks the client where.
"""
