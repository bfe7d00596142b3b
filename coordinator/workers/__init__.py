"""Workers and the hardware they run on."""
