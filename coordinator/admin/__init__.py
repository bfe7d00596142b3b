"""Commands of maintainers on a whole database: verify, repack, backup, restore."""
