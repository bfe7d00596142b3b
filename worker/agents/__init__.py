"""Agents draft proposals; they never run code, reach the network by themselves or see the worker's token."""
