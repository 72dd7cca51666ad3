"""Components: other people's programs, run the way Greengrass runs them and reported in its words.

===============  ==================================================================================
module           what it holds
===============  ==================================================================================
``states``       the states, the goals and the status codes
``lifecycle``    one component's life as a table: events, effects, state × event → rule; the diagram of it
``errors``       what can be wrong with a set of components
``order``        what HARD dependencies impose
``spec``         what a component is to be; what follows when that changes
``environment``  what a script finds in its environment
``runner``       the seam: whatever can perform steps and be killed is a component
``scripts``      the runner of recipes: one script after the other, each in its own session, as the right user
``process_tree``  which processes belong to a component, and ending them
``record``       what survives the agent's own death, so that nothing runs twice
``limits``       memory and CPU, by cgroup or rlimit
``freezer``      components held still, by cgroup or signal
``logs``         a component's log, rotated and bounded
``component``    one component's shell: takes events, performs effects
``supervisor``   many components: brings the set to a target
===============  ==================================================================================
"""
