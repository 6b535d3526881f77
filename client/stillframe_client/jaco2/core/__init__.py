"""What decides each 10 ms what the arm is told: pure, of one time that it is given. Imports no transport and no arm."""
