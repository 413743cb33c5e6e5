"""Report what is installed, what can run and what is missing, for `leakrt doctor`.

report.py      the whole report
facts.py       the facts about this machine, collected once
needs.py       the state of each component, derived from the facts
jetson.py      the Jetson model and release, from the release file and the device tree
toolkit.py     the CUDA toolkit, and the GPUs that `leakrt._cuda` was built for
libraries.py   TensorRT and TensorRT-RTX, and system bindings that this Python can't import
cached.py      the engine cache
commands.py    the command that installs a missing component, by kind of machine

Only `facts` and the modules that it calls read files, below a root that tests can replace. `needs` is pure.
"""
