"""What is commanded: records in, what stands for a run out, and the answers."""
