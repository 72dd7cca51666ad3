"""The components that every agent offers: Greengrass's for machine learning under their own names, Verge's runtimes.

A deployment document that names them resolves here as it did there; what runs behind the names is the agent itself, so
the recipes have neither scripts nor artifacts.

==================  ============================================================================
module              what it holds
==================  ============================================================================
``families``        the four inference components: topics, pictures, archives, stores, runtimes
``entries``         every component of the catalog and its versions, as a table and as recipes
``keys``            the AWS keys of an inference component → a ``Verge`` block, the owner's own block over it
``access``          what an ``accessControl`` lets a component publish
``scalars``         numbers and booleans, native or as text
``parts``           the agent's own parts, and which bounds on their versions are met
``amazon``          every public component of AWS's, and what becomes of it here
``absent``          AWS's components that are not offered, and what to do without each
``requirements``    what a component needs of its device, checked against the device's facts
==================  ============================================================================

Everything here is pure: it decides and touches nothing.
"""

from __future__ import annotations

from agent.greengrass.catalog.entries import completed, is_ours, names, recipe, versions

__all__ = ["completed", "is_ours", "names", "recipe", "versions"]
