"""Samplers of outside libraries, each behind an extra; a library is imported by ``fit``, never before."""
