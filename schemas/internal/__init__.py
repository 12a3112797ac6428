"""What workers tell each other: of no concern to anybody else."""
