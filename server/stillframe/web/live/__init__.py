"""The pages that a browser gets: the live page, the API's page, and the feed behind them. Knows no engine."""
