"""The experiments of the DFT paper (arXiv 2411.01453), carried further, and the ledger of its claims.

Every experiment is a suite ``paper-...`` and a module with two functions: ``write_tables(store, results, to)`` writes
the tables that a leaderboard lacks, ``write_figures(folder)`` draws figures from the CSVs of that folder alone, so
that a checkout without a store draws the same bytes.
"""
