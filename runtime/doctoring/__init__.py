"""What `leakrt doctor` looks at to say whether an NVIDIA GPU can be used. `facts` gathers, `needs` judges.

jetson.py      which Jetson this is, from its release file and its device tree
toolkit.py     the CUDA toolkit found, and what `leakrt._cuda` was built for
libraries.py   TensorRT and TensorRT-RTX, and bindings that this Python can't see
cached.py      the engine cache
commands.py    for each thing missing the one command that gets it, by kind of machine

No raw fact is read where it is judged: files lie below a root that a test can name, and judging takes values alone.
"""
