"""The process that commands the arm, a hundred times a second. Imports no camera, no picture and no policy client."""
