"""Attention on the CPU: C++ kernels behind a plain C interface, and the backend that calls them."""
