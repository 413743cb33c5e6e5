"""What is installed, what can run and what is missing, for `leakrt doctor`. `facts` reads, `needs` concludes.

report.py      the whole report
jetson.py      which Jetson this is, from its release file and its device tree
toolkit.py     the CUDA toolkit found, and what `leakrt._cuda` was built for
libraries.py   TensorRT and TensorRT-RTX, and bindings that this Python can't see
cached.py      the engine cache
commands.py    for each thing missing the one command that gets it, by kind of machine

Only `facts` and the modules it calls read files, below a root that a test can name; `needs` takes values alone.
"""
