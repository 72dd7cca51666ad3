"""What the agent needs, checked one by one: each check gives findings, and a finding that is not OK says the fix.

==============  ==========================================================================================
module          what it holds
==============  ==========================================================================================
``finding``     the result of a check
``checks``      the table of all checks, in order
``machine``     Python, C library, processor, memory, the memory that frames cross in
``libraries``   NumPy, OpenCV and each backend, imported in a child process
``child``       asks ``probe`` in a process of its own, so that a crash is a finding
``probe``       the program of that process
``models``      the sample model answers; each configured model loads
``components``  the requirements of the catalog's components, and which runtimes could be had
``files``       the data folder and the password files
``tls``         certificates and keys
``brokers``     each broker is reached, its limits, and the topics that they exclude
``deployers``   who may deploy, tried as a stranger would
``needs``       every topic that a configuration needs (pure)
``topics``      which of these topics the brokers allow; the role alias and the Greengrass data plane
==============  ==========================================================================================

Nothing native is imported here: a library that crashes in the child process does not end the examination.
"""
