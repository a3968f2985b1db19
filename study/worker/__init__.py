"""What runs on a worker, and what becomes of it when it fails."""
