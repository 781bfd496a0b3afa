"""What Slurm commands print, as values. Pure: text in, values out."""
