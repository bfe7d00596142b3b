"""What coordinator, worker and the researcher's client all speak: wire models, the contract, and git objects."""
