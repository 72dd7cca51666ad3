"""Component recipes, format 2020-01-25, and the configuration of components: everything here decides, nothing acts.

==================  ============================================================================
module              what it holds
==================  ============================================================================
``versions``        versions and version requirements
``recipe``          the values a recipe is read into
``document``        text → plain data with bounds, every text as written, every value with its path
``reader``          plain data → recipe
``uris``            what the URI of an artifact has to be
``templates``       what in a recipe still waits for the build that fills it in
``writer``          recipe → the text that a store keeps
``platform``        which manifest is for this device
``lifecycle``       what a component runs: selections applied, steps read
``variables``       ``{configuration:/…}`` and the other recipe variables
``configuration``   a component's stored configuration: reset, defaults, merge; JSON pointers
``lint``            what loads but will surprise
``errors``          everything that can be wrong with a recipe, under Greengrass's own codes
==================  ============================================================================

The order of use::

    recipe = reader.parse(text, name)
    manifest = platform.choose(recipe, attributes)
    chosen = lifecycle.select(recipe, manifest)
    steps = lifecycle.parse(variables.interpolate(chosen, context).lifecycle)
"""
