"""Shipped noise floors."""
