"""Shipped reference draws and their certificates."""
