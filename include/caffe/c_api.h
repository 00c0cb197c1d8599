#ifndef CAFFE_C_API_H_
#define CAFFE_C_API_H_

/**
 * The C interface of the library, which pycaffe calls by Python's ctypes (fork/binding/caffe/_caffe.py): one library serves every
 * Python.
 *
 * Handles. An object is passed as a handle. A function that returns one gives it to the caller, who gives it back to
 * caffe_release(); the object lives as long as somebody has a handle to it or Caffe itself needs it. Handles that "own nothing" keep no
 * object alive; they, too, are released.
 *
 * Errors. A function that may fail returns a negative number or a null pointer; then caffe_error() says why. A failed check
 * of Caffe's is such an error where caffe_checks_are_errors() was called and the check failed on the thread that called; else it ends
 * the process, as in a program.
 *
 * Memory. Strings and arrays that are returned belong to the library: they are good until the same thread calls the
 * function again, those of an object as long as the object. All numbers of blobs are floats.
 *
 * Threads. An object is for one thread at a time. Mode, device, seed and the like are Caffe's own, a thread's each.
 */
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CAFFE_API __attribute__((visibility("default")))

typedef struct caffe_object* caffe_handle;

/* ---- The library */

enum caffe_error_kind { CAFFE_RUNTIME_ERROR, CAFFE_CALLBACK_ERROR, CAFFE_MEMORY_ERROR, CAFFE_CHECK_FAILED };

/* What the last call of this thread that failed died of: its kind, and its text in *text. CAFFE_CALLBACK_ERROR: a callback
   said that it failed, and knows why. */
CAFFE_API int caffe_error(const char** text);
CAFFE_API void caffe_release(caffe_handle object);

CAFFE_API const char* caffe_version(void);
/* The types of layers, one a line. */
CAFFE_API const char* caffe_layer_type_list(void);
/* Starts glog; a negative value leaves the flag as it is. */
CAFFE_API void caffe_init_log(int level, int to_stderr);
CAFFE_API void caffe_log(int warning, const char* text);
CAFFE_API int caffe_set_mode(int gpu);
CAFFE_API int caffe_set_device(int device);
CAFFE_API int caffe_set_random_seed(unsigned seed);
CAFFE_API int caffe_solver_count(void);
CAFFE_API void caffe_set_solver_count(int count);
CAFFE_API int caffe_solver_rank(void);
CAFFE_API void caffe_set_solver_rank(int rank);
CAFFE_API void caffe_set_multiprocess(int several);
/* From now on a failed check on a thread that called is an error of the call, where glog can do that: returns whether. */
CAFFE_API int caffe_checks_are_errors(void);
/* Runs a main() of Caffe's, which must not throw through Python: its exit status, or -1 as any call that fails. */
CAFFE_API int caffe_run_main(int (*function)(int, char**), int argc, char** argv);

/* ---- Callbacks. Each returns 0, or something else for CAFFE_CALLBACK_ERROR. */

typedef int (*caffe_callback)(int number);

/* Layers of the type Python. `create` makes the layer `name` of `module` for `layer`, a handle that owns nothing, good until
   `destroy`, and gives it an id. */
typedef int (*caffe_python_create)(const char* module, const char* name, caffe_handle layer, int* id);
/* Has a layer do something. The handles of bottom and top own nothing, and are good until `call` returns. */
enum caffe_python_task { CAFFE_SETUP, CAFFE_RESHAPE, CAFFE_FORWARD, CAFFE_BACKWARD };
typedef int (*caffe_python_call)(int id, int task, const caffe_handle* bottom, int bottoms, const caffe_handle* top,
                                 int tops, const int* propagate_down, const char* param_str, int phase);
typedef void (*caffe_python_destroy)(int id);
CAFFE_API void caffe_set_python_layers(caffe_python_create create, caffe_python_call call,
                                       caffe_python_destroy destroy);

/* ---- Nets */

/* A network from a file; `weights` may be null. */
CAFFE_API caffe_handle caffe_net_new(const char* file, int phase, int level, const char* const* stages, int count,
                                     const char* weights);
CAFFE_API int caffe_net_forward(caffe_handle net, int start, int end, float* loss);
CAFFE_API int caffe_net_backward(caffe_handle net, int start, int end);
CAFFE_API int caffe_net_reshape(caffe_handle net);
CAFFE_API int caffe_net_clear_param_diffs(caffe_handle net);
CAFFE_API int caffe_net_copy_from(caffe_handle net, const char* file);
CAFFE_API int caffe_net_load_hdf5(caffe_handle net, const char* file);
CAFFE_API int caffe_net_share_with(caffe_handle net, caffe_handle other);
CAFFE_API int caffe_net_save(caffe_handle net, const char* file);
CAFFE_API int caffe_net_save_hdf5(caffe_handle net, const char* file);
CAFFE_API int caffe_net_blobs(caffe_handle net);
CAFFE_API caffe_handle caffe_net_blob(caffe_handle net, int index);
CAFFE_API const char* caffe_net_blob_name(caffe_handle net, int index);
CAFFE_API float caffe_net_blob_loss_weight(caffe_handle net, int index);
CAFFE_API int caffe_net_layers(caffe_handle net);
CAFFE_API caffe_handle caffe_net_layer(caffe_handle net, int index);
CAFFE_API const char* caffe_net_layer_name(caffe_handle net, int index);
/* How many blobs are bottoms or tops of the layer `index`, inputs or outputs of the net; their numbers in *ids. */
enum caffe_net_blob_ids { CAFFE_BOTTOMS, CAFFE_TOPS, CAFFE_INPUTS, CAFFE_OUTPUTS };
CAFFE_API int caffe_net_ids(caffe_handle net, int what, int index, const int** ids);
/* Whether the first layer is a MemoryData; then sizes are its batch size, channels, height and width. */
CAFFE_API int caffe_net_memory_data(caffe_handle net, int* sizes);
/* Gives the MemoryData, which is there, `count` images that it reads where they are. */
CAFFE_API int caffe_net_set_input(caffe_handle net, float* data, float* labels, int count);
/* Calls `function` with the number of each layer, from then on. */
enum caffe_net_event { CAFFE_BEFORE_FORWARD, CAFFE_AFTER_FORWARD, CAFFE_BEFORE_BACKWARD, CAFFE_AFTER_BACKWARD };
CAFFE_API int caffe_net_call(caffe_handle net, int event, caffe_callback function);

/* ---- Blobs */

#define CAFFE_MOST_AXES 32

/* Where the numbers of a blob are, on the CPU. The caller sets blob and diff, and zeroes the rest. */
typedef struct caffe_values {
  caffe_handle blob;
  int64_t diff; /* rather than data */
  int64_t at;
  int64_t axes;
  int64_t shape[CAFFE_MOST_AXES];
} caffe_values;

/* Brings *values up to date: 1 where they are elsewhere or of another shape than *values said, else 0. */
CAFFE_API int caffe_blob_look(caffe_values* values);
/* The same without a look at the numbers: the shape alone. */
CAFFE_API int caffe_blob_shape(caffe_handle blob, int64_t* shape);
CAFFE_API int caffe_blob_reshape(caffe_handle blob, const int* shape, int axes);
/* Their address on the GPU; a library for the CPU alone has no such function. */
CAFFE_API void* caffe_blob_gpu_values(caffe_handle blob, int diff);

/* ---- Layers */

CAFFE_API const char* caffe_layer_type(caffe_handle layer);
CAFFE_API int caffe_layer_blobs(caffe_handle layer);
CAFFE_API caffe_handle caffe_layer_blob(caffe_handle layer, int index);
CAFFE_API int caffe_layer_add_blob(caffe_handle layer, const int* shape, int axes);
CAFFE_API int caffe_layer_set_up(caffe_handle layer, const caffe_handle* bottom, int bottoms, const caffe_handle* top,
                                 int tops);
CAFFE_API int caffe_layer_reshape(caffe_handle layer, const caffe_handle* bottom, int bottoms,
                                  const caffe_handle* top, int tops);
/* A data layer gives next what it gives after so many passes (base_data_layer.hpp). */
CAFFE_API int caffe_layer_continue_at(caffe_handle layer, uint64_t passes);
/* The id that `create` gave a layer of the type Python; -1 for others. */
CAFFE_API int caffe_layer_python_id(caffe_handle layer);

/* ---- Solvers */

/* A solver of the type `type`, or, where that is null, of the one that the file says. */
CAFFE_API caffe_handle caffe_solver_new(const char* file, const char* type);
CAFFE_API const char* caffe_solver_type(caffe_handle solver);
CAFFE_API caffe_handle caffe_solver_net(caffe_handle solver);
CAFFE_API int caffe_solver_test_nets(caffe_handle solver);
CAFFE_API caffe_handle caffe_solver_test_net(caffe_handle solver, int index);
CAFFE_API int caffe_solver_iter(caffe_handle solver);
CAFFE_API int caffe_solver_solve(caffe_handle solver, const char* resume_file);
CAFFE_API int caffe_solver_step(caffe_handle solver, int steps);
CAFFE_API int caffe_solver_restore(caffe_handle solver, const char* file);
CAFFE_API int caffe_solver_snapshot(caffe_handle solver);
CAFFE_API int caffe_solver_apply_update(caffe_handle solver);
/* Lets `net` use the weights of the solver's. */
CAFFE_API int caffe_solver_share_weights(caffe_handle solver, caffe_handle net);
/* Calls `function` with 0 where an iteration starts and 1 when its gradients are ready, from then on. */
CAFFE_API int caffe_solver_call(caffe_handle solver, caffe_callback function);
CAFFE_API float caffe_solver_lr(caffe_handle solver);
CAFFE_API void caffe_solver_param(caffe_handle solver, int* max_iter, int* display, int* layer_wise_reduce,
                                  float* base_lr);
CAFFE_API void caffe_solver_set_base_lr(caffe_handle solver, float rate);

/* ---- Time */

CAFFE_API caffe_handle caffe_timer_new(void);
CAFFE_API int caffe_timer_start(caffe_handle timer);
CAFFE_API int caffe_timer_stop(caffe_handle timer);
CAFFE_API float caffe_timer_ms(caffe_handle timer);

/* ---- Several GPUs; all but the first fail where the library is without NCCL. */

CAFFE_API int caffe_has_nccl(void);
CAFFE_API caffe_handle caffe_nccl_new(caffe_handle solver, const char* uid, int size);
/* Writes the name of a new session, and returns its size. */
CAFFE_API int caffe_nccl_new_uid(char* uid, int most);
CAFFE_API int caffe_nccl_bcast(caffe_handle nccl);
CAFFE_API int caffe_nccl_join_solver(caffe_handle nccl, caffe_handle solver);
CAFFE_API int caffe_nccl_join_net(caffe_handle nccl, caffe_handle net);

#ifdef __cplusplus
}
#endif

#endif  // CAFFE_C_API_H_
