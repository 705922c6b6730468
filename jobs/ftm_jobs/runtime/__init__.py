"""The process a step runs in: its memory, processors, scratch folder, threads and progress."""
