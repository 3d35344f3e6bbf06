"""The front door: commands that check, call one stage, and print."""
