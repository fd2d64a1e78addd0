"""Fast versions for NumPy alone, where BLAS has all its threads and no compiled loop shares the work."""
