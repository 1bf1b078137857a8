import { defineConfig } from 'vitest/config'

const source = {
  resolve: { conditions: ['hydrant-source'] },
  ssr: { resolve: { conditions: ['hydrant-source', 'node'], externalConditions: ['hydrant-source', 'node'] } },
}
const common = { execArgv: ['-C', 'hydrant-source'], pool: 'forks' as const }

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        ...source,
        test: {
          ...common,
          name: 'unit',
          include: ['test/**/*.test.ts', 'plugins/**/*.test.ts'],
          exclude: ['test/integration/**', 'test/faults/**', '**/node_modules/**'],
          testTimeout: 20_000,
        },
      },
      {
        ...source,
        test: {
          ...common,
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
      {
        ...source,
        test: {
          ...common,
          name: 'faults',
          include: ['test/faults/**/*.test.ts'],
          testTimeout: 1_200_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
