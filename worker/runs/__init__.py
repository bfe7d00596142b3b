"""One measured run: sandboxed processes, one clock, one report."""
