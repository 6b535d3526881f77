"""Who is here: states, episodes, frame numbers, answers kept for a repeat, and what is remembered of those who left.

Knows neither the wire nor the device: a policy is asked, and futures say when it has answered.
"""
