"""Pure mathematics of the objective: advantages (A), policy terms, regularizers, eq. (L1)."""
