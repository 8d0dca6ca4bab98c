"""Pure mathematics of diffusion: processes (P), time grids, kernels (T), ODE solvers."""
