"""The process that looks, asks the policy and hands steps to the streamer. Trusted with nothing: see streamer/."""
