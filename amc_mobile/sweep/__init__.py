"""Many runs: a grid of devices, budgets, agents and seeds as jobs, and who does them: Ray."""
