"""What a checkpoint's folder holds, without its weights: `stillframe inspect`."""
