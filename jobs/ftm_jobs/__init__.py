"""What runs inside Jobs and serving pods. Imports nothing of the operator."""
