"""Suites shipped with the package, one TOML file each."""
