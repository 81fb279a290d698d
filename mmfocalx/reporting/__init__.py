"""What every report of this project shares: its page, charts, wording and gaps."""
