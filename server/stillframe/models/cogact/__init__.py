"""The CogACT family: a vision-language model's last row steers a diffusion transformer that draws a chunk of actions."""
