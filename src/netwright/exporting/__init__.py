"""What leaves a run: the program (preparation, network, decoding) as files."""
