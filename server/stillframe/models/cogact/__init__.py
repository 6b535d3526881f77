"""The CogACT family: a vision-language model steers a diffusion transformer, which draws a chunk of actions."""
