"""Components: other people's programs, run the way Greengrass runs them, and told about in its words.

===============  ==================================================================================
module           what it holds
===============  ==================================================================================
``states``       the states, the goals and the status codes
``machine``      the values of one component's life: events, effects, where it stands
``lifecycle``    the table: state × event → rule; ``diagram`` draws it
``errors``       what can be wrong with a set of components
``order``        what HARD dependencies impose
``spec``         what a component is to be; what follows when that changes
``environment``  what a script finds in its environment
``runner``       the seam: whatever can perform steps and be killed is a component
``scripts``      the runner of recipes: one script after the other, as the right user, within limits
``identity``     who a script runs as
``process``      one script in its own session
``kin``          which processes belong to a component, and ending them
``record``       what survives the agent's own death, so that nothing runs twice
``limits``       memory and CPU, by cgroup or rlimit
``logs``         a component's log, rotated and bounded
``component``    one component's shell: hears events, performs effects
``supervisor``   many components: brings the set to a target
``health``       when a fleet status message is sent, and of what
``report``       what such a message tells
``messages``     the message itself, in chunks
===============  ==================================================================================
"""
