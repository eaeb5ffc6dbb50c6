"""Benchmarks: the service compared with others, and the cost of its SQL statements as the table grows. Linux only (/proc)."""
