"""The components that every agent offers: Greengrass's for machine learning under their own names, Verge's runtimes.

A deployment document that names them resolves here as it did there; what runs behind the names is the agent itself, so
the recipes have neither scripts nor artifacts.

==================  ============================================================================
module              what it holds
==================  ============================================================================
``families``        the four inference components: topics, pictures, archives, stores, runtimes
``entries``         every component of the catalog, with the versions that there are of it
``shelf``           entries → recipes
``keys``            the AWS keys of an inference component → a ``Verge`` block
``over``            the owner's own block over that one
``access``          what an ``accessControl`` lets a component publish
``scalars``         numbers and booleans, native or as text
``requirements``    what a component needs of its device, checked against the device's facts
==================  ============================================================================

Everything here is pure: it decides and touches nothing.
"""

from __future__ import annotations

from agent.greengrass.catalog.entries import NOT_YET_SERVED
from agent.greengrass.catalog.shelf import completed, is_ours, names, recipe, versions

__all__ = ["NOT_YET_SERVED", "completed", "is_ours", "names", "recipe", "versions"]
