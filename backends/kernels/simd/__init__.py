"""What compiled kernels are written with. Its modules import Numba, and are imported when a kernel is compiled."""
