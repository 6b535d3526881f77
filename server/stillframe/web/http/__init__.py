"""From bytes to fields and pictures, each checked before it is decoded. Knows no engine."""
